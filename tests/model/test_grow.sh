#!/usr/bin/env bash
# Growth under every interleaving of three threads. ctest: TIMEOUT 300
set -u
# shellcheck source=tests/model/support/search.sh
. "$(dirname "${BASH_SOURCE[0]}")/support/search.sh"

search grow
search grow -DSLABS=1
search grow -DSLABS=1 -DCHUNKS_MAX=1
search_fails grow 'assertion violated (n_growers[class]==1)' -DNO_FLAG
search_fails grow 'invalid end state' -DNO_WAKE
search_fails grow 'invalid end state' -DEARLY_WAKE
