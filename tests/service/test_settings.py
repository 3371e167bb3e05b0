"""Settings from environments."""

import hashlib
import os

import pytest

from service.settings import VARIABLES, Settings, SettingsError, allowed_cpus

DIGEST = hashlib.sha256(b"secret").hexdigest()


def test_settings_have_the_documented_defaults():
    """An empty environment gives every variable its default."""
    settings = Settings.from_environ({"PATH": "/bin"})

    assert str(settings.store) == "models"
    assert settings.default_model is None
    assert settings.required_models == ()
    assert settings.bind == "127.0.0.1:8000"
    assert settings.workers == allowed_cpus()
    assert (settings.threads, settings.max_concurrency) == (32, 24)
    assert settings.poll_seconds == 2.0
    assert settings.max_body_bytes == 134_217_728
    assert settings.max_rows == 100_000
    assert (settings.auth, settings.api_keys_sha256) == (None, ())


def test_settings_have_one_field_for_each_variable():
    """A variable has the name of its field with the prefix, and a sentence for the README."""
    fields = list(Settings.__dataclass_fields__)
    assert [variable.name for variable in VARIABLES] == [f"RESIDUAL_{name.upper()}" for name in fields]
    assert all(variable.help.endswith(".") for variable in VARIABLES)


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda variable: variable.name)
def test_settings_take_an_empty_value_as_not_set(variable):
    """A compose file passes on variables without a value."""
    assert Settings.from_environ({variable.name: " "}) == Settings.from_environ({})


def test_settings_read_lists():
    """Names and digests are comma separated, blanks around them ignored."""
    settings = Settings.from_environ(
        {"RESIDUAL_REQUIRED_MODELS": "a, b,", "RESIDUAL_API_KEYS_SHA256": f"{DIGEST.upper()} , {'0' * 64}"}
    )

    assert settings.required_models == ("a", "b")
    assert settings.api_keys_sha256 == (bytes.fromhex(DIGEST), bytes(32))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("RESIDUAL_WORKERS", "four", "must be a positive integer, got 'four'"),
        ("RESIDUAL_WORKERS", "0", "must be a positive integer, got '0'"),
        ("RESIDUAL_THREADS", "-1", "must be a positive integer"),
        ("RESIDUAL_MAX_CONCURRENCY", "1.5", "must be a positive integer"),
        ("RESIDUAL_MAX_ROWS", "1_000", "must be a positive integer"),
        ("RESIDUAL_POLL_SECONDS", "0", "must be a positive number of seconds, got '0'"),
        ("RESIDUAL_POLL_SECONDS", "nan", "must be a positive number of seconds"),
        ("RESIDUAL_BIND", "8000", "must be HOST:PORT or unix:/PATH, got '8000'"),
        ("RESIDUAL_BIND", "127.0.0.1:70000", "must be HOST:PORT"),
        ("RESIDUAL_BIND", ":8000", "must be HOST:PORT"),
        ("RESIDUAL_DEFAULT_MODEL", "../up", "must be made of model names"),
        ("RESIDUAL_REQUIRED_MODELS", "a,B", "must be made of model names"),
        ("RESIDUAL_AUTH", "basic", "must be 'none' or not set, got 'basic'"),
        ("RESIDUAL_API_KEYS_SHA256", "secret", "must be SHA-256 digests of 64 hex digits each"),
    ],
)
def test_settings_refuse_values_by_name(name, value, words):
    """The sentence has the variable, its valid values and the given one."""
    with pytest.raises(SettingsError, match=name) as caught:
        Settings.from_environ({name: value})

    assert words in str(caught.value)


def test_settings_refuse_an_unknown_variable_and_name_a_close_one():
    """A typing error does not pass as a default."""
    with pytest.raises(
        SettingsError, match=r"RESIDUAL_WORKER is not a setting, did you mean RESIDUAL_WORKERS\?"
    ):
        Settings.from_environ({"RESIDUAL_WORKER": "2"})


@pytest.mark.parametrize(
    "name", ["RESIDUAL_SERVICE_HOST", "RESIDUAL_PORT", "RESIDUAL_PORT_8000_TCP", "RESIDUAL_SERVICE_PORT_HTTP"]
)
def test_settings_ignore_what_kubernetes_injects(name):
    """A Service named residual sets variables with our prefix."""
    assert Settings.from_environ({name: "tcp://10.0.0.1:8000"}) == Settings.from_environ({})


@pytest.mark.parametrize("bind", ["0.0.0.0:8000", "[::]:8000", "192.0.2.1:80", "myhost:80"])
def test_settings_off_loopback_need_a_decision_about_access(bind):
    """Other machines get access only if it is configured."""
    with pytest.raises(SettingsError, match="RESIDUAL_API_KEYS_SHA256"):
        Settings.from_environ({"RESIDUAL_BIND": bind})

    assert Settings.from_environ({"RESIDUAL_BIND": bind, "RESIDUAL_AUTH": "none"}).auth == "none"
    assert Settings.from_environ({"RESIDUAL_BIND": bind, "RESIDUAL_API_KEYS_SHA256": DIGEST}).bind == bind


@pytest.mark.parametrize(
    "bind", ["127.0.0.1:8000", "127.9.9.9:1", "[::1]:8000", "localhost:80", "unix:/run/a"]
)
def test_settings_on_loopback_need_none(bind):
    """Only this machine gets in."""
    assert Settings.from_environ({"RESIDUAL_BIND": bind}).bind == bind


def test_settings_refuse_keys_together_with_none():
    """Keys that nobody asks for would be a false comfort."""
    with pytest.raises(SettingsError, match="contradict each other"):
        Settings.from_environ({"RESIDUAL_AUTH": "none", "RESIDUAL_API_KEYS_SHA256": DIGEST})


@pytest.mark.parametrize(
    ("content", "cpus"),
    [
        ("100000 100000", 1),
        ("50000 100000", 1),
        ("150000 100000", 2),
        ("max 100000", 4),
        ("99900000 100000", 4),
        ("odd", 4),
        (None, 4),
    ],
)
def test_allowed_cpus_follow_the_quota_of_the_control_group(tmp_path, monkeypatch, content, cpus):
    """A container gets as many workers as CPUs it has a share of, at most its affinity."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    if content is not None:
        (tmp_path / "cpu.max").write_text(content)

    assert allowed_cpus(tmp_path / "cpu.max") == cpus


def test_settings_keep_a_socket_file_to_one_listener():
    """The last of several processes that bind one path would get all connections."""
    with pytest.raises(SettingsError, match="REUSE_PORT=1 needs RESIDUAL_BIND=HOST:PORT, got unix:/run/x"):
        Settings.from_environ({"RESIDUAL_REUSE_PORT": "1", "RESIDUAL_BIND": "unix:/run/x"})


@pytest.mark.parametrize(("threads", "concurrency"), [("4", "4"), ("8", "24")])
def test_settings_keep_a_thread_to_refuse_with(threads, concurrency):
    """If every thread were at work, a request would wait in gunicorn's queue without a bound."""
    environ = {"RESIDUAL_THREADS": threads, "RESIDUAL_MAX_CONCURRENCY": concurrency}

    with pytest.raises(SettingsError, match=f"got {concurrency} and {threads}"):
        Settings.from_environ(environ)
