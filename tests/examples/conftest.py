from tests.devices.sessions import ray_started, session, spu

__all__ = ["ray_started", "session", "spu"]
