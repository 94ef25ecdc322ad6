-- What is done with each of the functions in this folder.

-- revoke --
-- Every role may execute a new function; who may send is for its owner to grant.
REVOKE ALL ON FUNCTION :"schema".:{signature} FROM PUBLIC;

-- drop --
DROP FUNCTION IF EXISTS :"schema".:{signature};
