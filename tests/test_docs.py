"""What the pages promise is there: the rows of the seeds that are words, links that lead somewhere, files of the tour that exist."""
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = sorted(p for p in ROOT.rglob("*.md") if "build" not in p.relative_to(ROOT).parts)


def test_practices_are_written_down():
    """S1-49, S1-51, S1-52: rotation without downtime, TLS and firewall in production, the four causes of "Authentication Not Working"."""
    text = (ROOT / "docs/keys.md").read_text()
    for words in ["Rotation without downtime", "TLS", "firewall", "LOAD_BALANCER_HOST=0.0.0.0", "valid JSON", "`valid_keys`", "`require_auth_for_external` true",
                  "`local_networks`"]:
        assert words in text, words


def test_keys_are_never_committed():
    """S1-47: the key files are ignored, and an example is shipped in which no key is real."""
    for name in ["api_keys.json", ".env", "data/keys.env"]:
        assert subprocess.run(["git", "-C", ROOT, "check-ignore", "-q", name]).returncode in (0, 128), name  # 128: an exported tree without git
    ignored = (ROOT / ".gitignore").read_text()
    assert "/api_keys.json" in ignored and "/.env" in ignored and "/data/" in ignored
    assert (ROOT / "api_keys.example.json").exists()


def test_links_lead_somewhere():
    """Every relative link of every page names a file of the tree."""
    broken = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            if not re.match(r"[a-z]+:", target) and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert not broken


def test_the_tour_names_files_that_exist():
    """A newcomer follows the README's tour: its files are there."""
    tour = (ROOT / "README.md").read_text().split("## The tour")[1]
    names = re.findall(r"`(src/[\w/.*]+)`", tour)
    assert len(names) > 10
    assert not [n for n in names if not list(ROOT.glob(n.rstrip("/")))]


def test_every_stage_of_the_corridor_is_in_the_architecture():
    """ARCHITECTURE's table is the corridor's list."""
    stages = re.findall(r'= \{ "(\w+)", tg_stage_', (ROOT / "src/gate/corridor.c").read_text())
    rows = re.findall(r"^\| (\w+) \|", (ROOT / "ARCHITECTURE.md").read_text(), re.M)
    assert len(stages) == 11 and stages == [r for r in rows if r in stages]
