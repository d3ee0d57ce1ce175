"""canitoolcall's probe: its scenarios against the live server, in two call formats."""
import json
import subprocess
import sys

import pytest

from scripted import Server, call

EVENT = {"title": "Design review", "start": "2026-10-01T15:00:00Z",
         "attendees": [{"name": "Ana", "email": "ana@example.com"},
                       {"name": "Bo", "email": "bo@example.com"}],
         "location": {"city": "Berlin", "room": "4.12"}}
NOTE = {"title": "Grüße aus Zürich", "body": "Café ☕ in 東京 — naïve résumé 🚀"}


def rules(form):
    def calls(*made):
        return "\n".join(call(name, arguments, form) for name, arguments in made)

    return [
        {"after_tool": True, "contains": "temp_c", "text": "It is 18 °C and clear in Paris."},
        {"last": "Paris right now", "text": calls(("get_weather", {"city": "Paris"}))},
        {"last": "once per city", "text": calls(("get_weather", {"city": "Paris"}),
                                                ("get_weather", {"city": "Tokyo"}))},
        {"last": "17 + 25", "reasoning": "17 + 25 is 42.", "text": "42"},
        {"last": "Design review", "text": calls(("create_event", EVENT))},
        {"last": "Save a note", "text": calls(("save_note", NOTE))},
        {"last": "What time is it", "text": calls(("get_server_time", {}))},
        {"last": "Lisbon", "text": calls(("get_weather", {"city": "Lisbon"}))},
        {"last": "9.11", "reasoning": "9.9 is 9.90, which is more than 9.11.",
         "text": calls(("record_answer", {"answer": "9.9"}))},
    ]


@pytest.mark.parametrize("form", ["qwen3_coder", "hermes"])
def test_all_scenarios(form, tmp_path):
    report = tmp_path / "report.json"
    with Server(rules(form), "--tool-call-parser", form) as server:
        done = subprocess.run(
            [sys.executable, "-m", "canitoolcall", "probe", "--base-url", server.url,
             "--model", "scripted", "--json", report], capture_output=True, text=True, timeout=120)
    print(done.stdout, done.stderr)
    outcomes = json.loads(report.read_text())["outcomes"]
    assert len(outcomes) == 27
    assert [o for o in outcomes if o["status"] != "pass"] == []
    # A call that was asked for by name ends with "stop", as OpenAI has it; the probe notes that.
    assert {o["scenario_id"] for o in outcomes if o["warnings"]} <= {"forced-tool-choice"}
    assert done.returncode == 0
