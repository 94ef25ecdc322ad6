-- Constraints that are immediate of themselves are so for the next message. One that was dropped meanwhile is not missed.
DO $pgpubsub$
BEGIN
    SET CONSTRAINTS :{constraints} IMMEDIATE;
EXCEPTION WHEN undefined_object THEN
    NULL;
END
$pgpubsub$
