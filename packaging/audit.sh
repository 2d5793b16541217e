#!/bin/sh
# Asks for known vulnerabilities of what the lock files pin: audit.sh FILE... A package of which the
# service has nothing is not audited, which is no "none known": hence --strict.
# Ends with 0 where none is known, 1 where one is, 2 where that could not be asked.
set -u

result=0
for file in "$@"; do
  output=$(pip-audit --disable-pip --require-hashes --strict --progress-spinner off --timeout 15 \
    --requirement "$file" 2>&1)
  if [ $? -eq 0 ]; then
    echo "audit: $file: no known vulnerability"
  elif echo "$output" | grep -q "Found [0-9]* known vulnerabilit"; then
    echo "audit: $file has known vulnerabilities; raise the versions, and write the lock files with make lock"
    echo "$output"
    result=1
  else
    echo "audit: cannot ask about $file: the advisory service (pypi.org) was not reached, or did not answer. Nothing is known of it."
    echo "$output" | tail -n 1
    [ "$result" -eq 1 ] || result=2
  fi
done
exit "$result"
