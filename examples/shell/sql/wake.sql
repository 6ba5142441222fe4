-- After the commit, and only to save a poll interval: wakes relays and pollers.
notify outboxkit_wake;
