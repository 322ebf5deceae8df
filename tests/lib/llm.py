"""
The real small language model, where this machine has it: what `sh scripts/llm.sh fetch` leaves in TOLLGATE_LLM_DIR (default ~/.cache/tollgate-llm), outside the tree.

    missing()          why there is none, or None
    command(port)      what becomes a server of it
"""
import os
import shutil
import subprocess
from pathlib import Path

from .gate import ROOT

LLM = Path(os.environ.get("TOLLGATE_LLM_DIR") or Path.home() / ".cache" / "tollgate-llm")
WEIGHTS = LLM / "gemma3-270m.gguf"
LOAD_S = 120


def missing():
    if not WEIGHTS.exists():
        return f"no weights in {LLM} (sh scripts/llm.sh fetch)"
    if shutil.which("llama-server") or next((LLM / "venv" / "lib").glob("**/llama-server"), None):
        return None
    if not (LLM / "node_modules" / "node-llama-cpp").exists() or not shutil.which("node"):
        return f"neither llama-server nor node with node-llama-cpp in {LLM} (sh scripts/llm.sh fetch)"
    if int(subprocess.run(["node", "-p", "parseInt(process.versions.node)"], capture_output=True, check=True).stdout) < 20:
        return "node is older than 20, and there is no llama-server (sh scripts/llm.sh fetch)"
    return None


def command(port, weights=WEIGHTS, name="gemma3"):
    return ["sh", str(ROOT / "scripts" / "llm_worker.sh"), str(weights), name, str(port)]
