"""The environment of sound-source seeking: configuration, episodes, rewards, single and vector form."""
