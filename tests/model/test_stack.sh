#!/usr/bin/env bash
# The lock-free stack under every interleaving of three threads. ctest: TIMEOUT 300
set -u
# shellcheck source=tests/model/support/search.sh
. "$(dirname "${BASH_SOURCE[0]}")/support/search.sh"

search_long stack
search stack -DN=4 -DOPS=4 -DTHREADS=2
search_fails stack 'assertion violated ((below==0)||(owner[(below-1)]==0))' -DNO_TAG
