"""The environment of sound-source seeking: configuration, episodes, rewards, `Env` and `VectorEnv`."""
