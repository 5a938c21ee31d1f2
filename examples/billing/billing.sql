-- Money is moved between accounts and never made: the sum of all balances is 0 at all times.
CREATE TABLE IF NOT EXISTS accounts (
    name  text   PRIMARY KEY,
    cents bigint NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS invoices (
    order_id  bigint  PRIMARY KEY,
    customer  text    NOT NULL,
    cents     bigint  NOT NULL,
    cancelled boolean NOT NULL DEFAULT false
);
