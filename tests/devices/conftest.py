from tests.devices.sessions import inprocess, ray_session, ray_spu, ray_started, session, spu

__all__ = ["inprocess", "ray_session", "ray_spu", "ray_started", "session", "spu"]
