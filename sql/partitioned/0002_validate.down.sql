-- Nothing to take back: a proof changes no row.
SELECT;
