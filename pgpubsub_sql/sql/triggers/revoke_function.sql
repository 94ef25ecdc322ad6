-- Else any role could let a table of its own call this, and so speak on the channel with our rights.
REVOKE ALL ON FUNCTION :"schema".:"function"() FROM PUBLIC;
