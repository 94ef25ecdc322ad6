-- Once a row: before the fact, when there are no transition tables; on partitioned tables; where it is asked for.
CREATE OR REPLACE TRIGGER :"trigger"
:{timing} ON :{table}
FOR EACH ROW EXECUTE FUNCTION :"schema".:"function"();
