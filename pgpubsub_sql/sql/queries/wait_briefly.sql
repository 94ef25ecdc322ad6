-- How long to wait for what a dead worker had in hand.
SET LOCAL lock_timeout = '5s'
