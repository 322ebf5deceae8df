"""What the black-box tests share: the gate under test (gate.py), programmable model workers (worker.py), raw HTTP/1.1 (wire.py)."""
