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


def test_where_keys_are_kept():
    """S4-17: the four places of document 004 and the way from each to the next."""
    text = (ROOT / "docs/keys.md").read_text().split("## Where keys are kept")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (environment variable|config file|database|secrets manager) \|", text, re.M)
    assert rows == ["environment variable", "config file", "database", "secrets manager"]
    for words in ["CHAPKIT_API_KEYS", "api_keys.json", "tollgate keys create", "file:/run/secrets/", "env:NAME", "SIGHUP", "staging", "production"]:
        assert words in text, words


def test_whose_documents_these_are():
    """S2-01: the product that document 002 names, and what of it is not taken; every document has its row."""
    text = (ROOT / "docs/compatibility.md").read_text()
    assert "`inferno-ai 0.10.3`" in text and "Enterprise AI/ML model runner with automatic updates, real-time monitoring, and multi-interface support" in text and "no automatic updates" in text
    assert [n for n in ("000", "001", "002", "003", "004") if not re.search(rf"^\| {n} \|", text, re.M)] == []


def test_where_the_modules_of_document_004_are():
    """S4-78: each of its modules has its row, and what the row names is there; the options are the table's."""
    text = (ROOT / "docs/credit-risk.md").read_text()
    table = text.split("## Where the document's modules are")[1]
    rows = {cells[1].strip("` "): cells[2] for cells in (line.split("|") for line in table.splitlines() if line.startswith("|"))}
    for module in ["auth", "config", "main", "exceptions", "middleware/rate_limit", "services/audit", "services/model_store", "services/model_store_s3"]:
        assert f"apps/api/{module}.py" in rows, module
    assert "apps/web" in rows
    files = re.findall(r"`(src/[^`]+)`", table)
    assert len(files) > 20 and [f for f in files if not (ROOT / f).exists()] == []
    members = re.findall(r"^CREDIT_\w+\((\w+)", (ROOT / "src/tables/credit.def").read_text(), re.M) + re.findall(r"^APPLICATION\((\w+)", (ROOT / "src/tables/application.def").read_text(), re.M)
    assert len(members) == 23 and [m for m in members if f"`{m}`" not in text] == []


def test_usage_says_what_a_crash_costs():
    """docs/usage.md promises what tests/api/test_usage.py shows: a minute at most, prices that are no binary fractions, the rounding."""
    text = (ROOT / "docs/usage.md").read_text()
    options = (ROOT / "src/tables/options.def").read_text()
    assert re.search(r'"usage_flush_s", U32, usage_flush_s, "60"', options) and "(60) seconds" in text and "a minute at most" in text
    assert re.search(r'"usage_days", U32, usage_days, "400"', options) and "`[store] usage_days` (400)" in text
    assert "half up" in text and "six places" in text
    for name in re.findall(r"OPTION\(\"prices\", \"(\w+)\"|MODEL\(\"(price_\w+)\"", options):
        assert f"{name[0] or name[1]} = " in text, name


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
    short = [n for n in re.findall(r"`([\w/.*]+\.(?:c|h|def|json|sql))`", tour) if not n.startswith("src/")]
    assert len(short) > 50
    assert not [n for n in short if not list((ROOT / "src").rglob(n))]


def test_every_stage_of_the_corridor_is_in_the_architecture():
    """ARCHITECTURE's table is the corridor's list."""
    stages = re.findall(r'= \{ "(\w+)", tg_stage_', (ROOT / "src/gate/corridor.c").read_text())
    rows = re.findall(r"^\| (\w+) \|", (ROOT / "ARCHITECTURE.md").read_text(), re.M)
    assert len(stages) == 11 and stages == [r for r in rows if r in stages]
