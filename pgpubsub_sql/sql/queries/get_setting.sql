-- One of the settings that our functions heed, as somebody has set it; there is no telling to what.
SELECT coalesce(current_setting(%(name)s, true), '')
