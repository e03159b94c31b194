"""A redis-server of a cluster's own, for tests that run on the redis engine:
RUKUN_TEST_ENGINE=redis gives every cluster of tests/cluster one."""
import os
import shutil
import signal
import socket
import subprocess
import time

ENGINE = os.environ.get("RUKUN_TEST_ENGINE", "embedded")


class RedisServer:
    def __init__(self, folder, port, *options):
        self.folder = folder
        self.port = port
        self.options = options
        self.process = None
        self.folder.mkdir(parents=True, exist_ok=True)
        self.start()

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    def start(self):
        program = shutil.which("redis-server")
        assert program, "redis-server is not installed"
        with open(self.folder / "redis.log", "ab") as log:
            self.process = subprocess.Popen(
                [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
                 "--appendonly", "no", "--dir", str(self.folder), *self.options],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        end = time.monotonic() + 10
        while time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError(f"no redis-server at {self.port}")

    def kill(self):
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait(10)

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)
