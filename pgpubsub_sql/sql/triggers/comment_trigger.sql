-- The owner tag and fingerprint by which the catalogue can be audited.
COMMENT ON TRIGGER :"trigger" ON :{table} IS :'comment';
