-- Functions are executable by everybody unless told otherwise; who may send is for the owner to grant.
REVOKE ALL ON FUNCTION :"schema".:{signature} FROM PUBLIC;
