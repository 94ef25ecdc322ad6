-- Takes a helper away again.
DROP FUNCTION IF EXISTS :"schema".:{signature};
