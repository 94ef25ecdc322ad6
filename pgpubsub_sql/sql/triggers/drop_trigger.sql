-- For an event that is no longer wanted.
DROP TRIGGER IF EXISTS :"trigger" ON :{table};
