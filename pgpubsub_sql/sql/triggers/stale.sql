-- Marks what was sent by a function that no longer fits its table.
, '$stale', true
