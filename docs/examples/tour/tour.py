#!/usr/bin/env python3
"""A minute with Rukun: a lock, a queue and a cache. `./dev up` ends with it.

    eval "$(./dev env)"
    python3 docs/examples/tour/tour.py
"""

import uuid

import rukun


def lock(client: rukun.Client) -> None:
    """Only one holder at a time; the fence tells later ones from earlier ones."""
    with client.lock("tour/report", wait=5) as held:
        print(f"lock   tour/report is held, fence {held.fence}")
        held.check()
    with client.lock("tour/report", wait=5) as again:
        print(f"lock   taken again, and the fence rose to {again.fence}")


def queue(client: rukun.Client) -> None:
    """A message goes to one consumer and is gone once that one is done with it."""
    topic = client.queue(f"tour/{uuid.uuid4()}")
    message_id = topic.publish({"greeting": "hello", "to": "world"})
    print(f"queue  published {message_id}")
    for job in topic.consume(visibility=30):
        with job:
            print(f"queue  delivered {job.data}, attempt {job.attempt}")
        break


def cache(client: rukun.Client) -> None:
    """One caller in the whole cluster computes, all others get what it found."""
    profiles = client.cache()

    @profiles.memoize(ttl=60)
    def profile(user_id: str) -> dict:
        print(f"cache  computing the profile of {user_id}")
        return {"name": user_id.title()}

    user_id = f"ada-{uuid.uuid4().hex[:8]}"
    first, second = profile(user_id), profile(user_id)
    assert first == second
    print(f"cache  and again, without computing: {second}")


def main() -> None:
    with rukun.Client() as client:  # the addresses are in RUKUN_ENDPOINTS
        lock(client)
        queue(client)
        cache(client)


if __name__ == "__main__":
    main()
