#!/bin/sh
# Makes .venv and installs the locked requirements, unless that has been done for these very files, at this very place.
# PYTHON chooses the interpreter; without it, the first of python3.11 to 3.13 that runs is taken.
set -eu
cd "$(dirname "$0")/.."

stamp=.venv/installed.txt
place="$(pwd)"
wanted="$(cat requirements.txt pyproject.toml mf_core/__init__.py | cksum)"

suits() {
    # A version manager's shim may exist and still not run.
    "$1" -c 'import ensurepip, ssl, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' >/dev/null 2>&1
}

choose() {
    if [ -n "${PYTHON:-}" ]; then
        if suits "$PYTHON"; then echo "$PYTHON"; return; fi
        echo "error: PYTHON=$PYTHON is no Python 3.11, 3.12 or 3.13 that runs with venv, ensurepip and ssl." >&2
        exit 1
    fi
    for name in python3.11 python3.12 python3.13 python3 python; do
        # Every folder of PATH, since a shim that fails may stand before an interpreter that works.
        old_ifs=$IFS
        IFS=:
        for folder in $PATH; do
            IFS=$old_ifs
            if [ -x "$folder/$name" ] && suits "$folder/$name"; then echo "$folder/$name"; return; fi
        done
        IFS=$old_ifs
    done
    echo "error: no Python 3.11, 3.12 or 3.13 (with venv, ensurepip and ssl) was found on PATH." >&2
    echo "Install one (Debian and Ubuntu: apt install python3.11 python3.11-venv), or name it: make demo PYTHON=/path/to/python3.12" >&2
    exit 1
}

same_version() {
    [ -z "${PYTHON:-}" ] || [ "$("$PYTHON" -V 2>&1)" = "$(.venv/bin/python -V 2>&1)" ]
}

usable() {
    # The scripts of an environment that was moved or copied point to the old place.
    suits .venv/bin/python && .venv/bin/python -c 'import pip' 2>/dev/null && same_version &&
        { [ ! -f "$stamp" ] || [ "$(sed -n 1p "$stamp")" = "$place" ]; }
}

if usable; then
    if [ "$(sed -n 2p "$stamp" 2>/dev/null)" = "$wanted" ]; then exit 0; fi
else
    interpreter="$(choose)"
    "$interpreter" -m venv --clear .venv
fi
echo "Installing the locked requirements into .venv with $(.venv/bin/python -V) (some minutes, once) ..."
rm -f "$stamp"
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
printf '%s\n%s\n' "$place" "$wanted" > "$stamp"
