#!/usr/bin/env bash
# Loose regions and magazines under every interleaving of three threads. ctest: TIMEOUT 300
set -u
# shellcheck source=tests/model/support/search.sh
. "$(dirname "${BASH_SOURCE[0]}")/support/search.sh"

search depot
search depot -DTHREADS=2 -DOPS=4
search_fails depot 'assertion violated (missed[me]==0)' -DNO_MUTEX
search_fails depot 'assertion violated (missed[me]==0)' -DPUT_BACK_REST
