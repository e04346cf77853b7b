from tests.devices.sessions import ray_started, session

__all__ = ["ray_started", "session"]
