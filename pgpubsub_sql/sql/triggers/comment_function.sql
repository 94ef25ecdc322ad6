-- The owner tag and fingerprint by which the catalogue can be audited.
COMMENT ON FUNCTION :"schema".:"function"() IS :'comment';
