"""The parts that a config can name: ours and those of plugins, registered by one function."""
