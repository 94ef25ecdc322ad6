-- The ordering key of a change.
:"helpers".pgpubsub_key_v1(:{parts})
