-- PostgreSQL gives a new partition the triggers of its parent in the name of whoever makes or attaches it.
GRANT EXECUTE ON FUNCTION :"schema".:"function"() TO :"role";
