"""`memop completion`: what a shell offers by the printed script."""

import shutil
import subprocess

import pytest

from memop import cli

# What bash does when TAB is pressed behind the words.
PRESS_TAB = """
source /dev/stdin
compopt() { :; }
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
$(complete -p memop | sed 's/.*-F \\([^ ]*\\).*/\\1/') memop "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
echo "${COMPREPLY[@]}"
"""


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["st"], "status"),
        (["status", "--no-"], "--no-stats"),
        (["status", "--output", ""], "table json"),
        (["run", "--leader-election-l"], "--leader-election-lease-duration"),
        (["completion", ""], "bash zsh tcsh"),
    ],
)
def test_bash_offers_commands_flags_and_choices(
    words: list[str], offered: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bash = shutil.which("bash")
    assert bash
    command = [bash, "-c", PRESS_TAB, "bash", "memop", *words]
    done = subprocess.run(command, input=script("bash", capsys), capture_output=True, text=True, check=True)
    assert done.stdout.split() == offered.split()


def test_there_is_one_for_zsh_too(capsys: pytest.CaptureFixture[str]) -> None:
    """No zsh here: that it is one, by its first line, and knows the commands."""
    text = script("zsh", capsys)
    assert text.startswith("#compdef memop\n")
    assert "doctor:" in text
