-- Which transaction this is: a listener may have ended the one in which the batch was taken.
SELECT pg_current_xact_id_if_assigned()::text
