"""The program: receives, authenticates, captures, parses and hands on; its CLI looks at and replays captures."""
