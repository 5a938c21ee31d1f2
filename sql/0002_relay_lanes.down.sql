-- Removes the relay's state. A lane whose checkpoint topic still exists halts when it finds the
-- state gone.
DROP TABLE relay_bindings;
DROP TABLE relay_lanes;
