-- Triggers that call these functions, on tables that a subscription fills: channel function, table, trigger, whether
-- the apply worker, which knows no statements but TRUNCATE, could fire it, and whether it is enabled for that.
SELECT
    proname::text, srrelid::regclass::text, quote_ident(tgname), tgtype & 1 = 1 OR tgtype & 32 = 32, tgenabled IN ('A', 'R')
FROM pg_subscription_rel
JOIN pg_trigger ON tgrelid = srrelid
JOIN pg_proc ON pg_proc.oid = tgfoid
WHERE proname = ANY (%(functions)s::text[]) AND pg_function_is_visible(pg_proc.oid) AND tgenabled <> 'D'
ORDER BY proname, srrelid::regclass::text, tgname
