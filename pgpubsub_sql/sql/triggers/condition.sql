-- The condition of the channel. NULL is no.
(:{condition})
