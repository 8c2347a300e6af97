"""The language of partyline: addresses, captures, events, envelopes, errors, key names. Pure."""
