-- A batch skips what others hold and sees what others commit, whatever the database's default.
SET TRANSACTION ISOLATION LEVEL READ COMMITTED
