-- LISTEN takes no parameters.
LISTEN :"channel"
