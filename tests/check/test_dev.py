"""`./dev` from up to down, with a stand-in for rukund that answers what dev asks."""

import os
import pathlib
import signal
import socket
import subprocess
import textwrap

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]

STAND_IN = textwrap.dedent("""\
    #!/usr/bin/python3
    import http.server, json, os, signal, sys
    options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
    if os.path.exists(options["--data"] + "/refuse"):
        sys.exit("this data folder belongs to another disk")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps({"role": "leader", "term": 7, "groups": [{"role": "leader"}]})
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body.encode())
        def log_message(self, *_):
            pass
    host, port = options["--http"].split(":")
    http.server.HTTPServer((host, int(port)), Handler).serve_forever()
""")


class Dev:
    def __init__(self, folder):
        self.run_dir = folder / "run"
        program = folder / "build/server/rukund/rukund"
        program.parent.mkdir(parents=True)
        program.write_text(STAND_IN)
        program.chmod(0o755)
        self.environment = os.environ | {
            "RUKUN_BUILD": str(folder / "build"), "RUKUN_RUN_DIR": str(self.run_dir),
            "RUKUN_SKIP_BUILD": "1", "RUKUN_SKIP_PACKAGES": "1"}

    def __call__(self, *arguments, status=0):
        done = subprocess.run([ROOT / "dev", *arguments], env=self.environment, text=True,
                              capture_output=True, timeout=60)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def lines(self, name):
        return (self.run_dir / name).read_text().split()


@pytest.fixture
def dev(tmp_path):
    dev = Dev(tmp_path)
    yield dev
    dev("down", "--wipe")


def is_alive(pid):
    """A process that ended and that nobody has waited for yet is not."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_up_is_idempotent_and_mends(dev):
    dev("up", "--ports", "auto")
    pids, http = dev.lines("pids"), dev.lines("http")
    assert len(set(pids)) == len(set(http)) == len(dev.lines("rpc")) == 3
    assert "leader of group 0 in term 7" in dev("status")

    dev("up")
    assert dev.lines("pids") == pids and dev.lines("http") == http

    os.kill(int(pids[1]), signal.SIGKILL)
    assert "n2   down" in dev("status", status=1)
    dev("up")
    assert dev.lines("pids")[0] == pids[0] and dev.lines("pids")[1] != pids[1]
    assert dev.lines("http") == http


def test_env_names_the_endpoints(dev):
    dev("up", "--ports", "auto")
    done = subprocess.run(["bash", "-c", 'eval "$(./dev env)"; echo "$RUKUN_ENDPOINTS"'],
                          cwd=ROOT, env=dev.environment, text=True, capture_output=True)
    assert done.stdout.strip() == ",".join(dev.lines("rpc"))


def test_down_keeps_data_and_ports_until_wiped(dev):
    dev("up", "--ports", "auto")
    pids, http = dev.lines("pids"), dev.lines("http")
    dev("down")
    assert not any(is_alive(pid) for pid in pids)
    assert not (dev.run_dir / "pids").exists()
    assert "other ports" in dev("up", "--ports", "fixed", status=1)
    dev("up")
    assert dev.lines("http") == http
    dev("down", "--wipe")
    assert not (dev.run_dir / "data").exists()
    dev("down")


def test_a_taken_port_names_its_holder(dev):
    dev("up", "--ports", "auto")
    port = dev.lines("http")[2].split(":")[1]
    dev("down")
    with socket.create_server(("127.0.0.1", int(port))):
        text = dev("up", status=1)
    assert f"port {port} for n3 is taken by" in text and f"pid {os.getpid()}" in text
    assert not (dev.run_dir / "pids").exists()


def test_a_node_that_ends_shows_its_log(dev):
    dev("up", "--ports", "auto")
    dev("down")
    (dev.run_dir / "data/n2/refuse").touch()
    text = dev("up", status=1)
    assert "belongs to another disk" in text and "n2 ended" in text


def test_a_strange_pid_is_left_alone(dev):
    dev("up", "--ports", "auto")
    dev("down")
    with subprocess.Popen(["sleep", "60"]) as stranger:
        (dev.run_dir / "pids").write_text(f"{stranger.pid}\n" * 3)
        dev("down")
        assert stranger.poll() is None
        stranger.kill()


def test_wrong_use_is_refused(dev):
    assert "no such command" in dev("upp", status=1)
    assert "no such option" in dev("up", "--port", "1", status=1)
    assert "no such step" in dev("test", "nonsense", status=1)
