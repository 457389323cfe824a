#!/usr/bin/env bash
# Asking caches for regions, with store buffers, under every interleaving. ctest: TIMEOUT 1200
set -u
# shellcheck source=tests/model/support/search.sh
. "$(dirname "${BASH_SOURCE[0]}")/support/search.sh"
# shellcheck disable=SC2034
way=-DT_REVERSE

unheard='assertion violated  !((((asleep[0]||asleep[1])||asleep[(2-1)])||(refusal==2)))'
sleeping='assertion violated ( !(((asleep[0]||asleep[1])||asleep[(2-1)]))||((n_loose==0)'

search_long ask
search ask -DOPS=2 -DLOADED=2
search_fails ask "$unheard" -DNO_FENCE_OWNER
search_fails ask "$sleeping" -DNO_FENCE_ASKER -DOPS=2
search_fails ask "$sleeping" -DWEAK_PUSH -DOPS=2
search_fails ask "$sleeping" -DNO_SECOND_LOOK -DOPS=2
search_fails ask "$sleeping" -DNO_BROADCAST -DOPS=2
search_fails ask "$sleeping" -DWAKE_UNLOCKED -DOPS=2
search_fails ask "$sleeping" -DLOOK_FIRST -DOPS=2 -DLOADED=2
search_fails ask "$sleeping" -DSILENT_SPILL -DOPS=2 -DLOADED=2
search_fails ask "$sleeping" -DSILENT_EXIT -DOPS=2
search_fails ask 'assertion violated (n_loaded[me]==2)' -DNO_RECOUNT -DOPS=2
search_fails ask 'assertion violated ((seen!=0)|| !((((asleep[0]||asleep[1])' \
    -DCLEAR_UNLOCKED
search_fails ask 'assertion violated (((asks&128)==0)|| !(answered))' -DNO_CLEAR -DOPS=2
search_fails ask 'assertion violated ((asks& ~(128))==0)' -DNO_COUNT_DOWN -DOPS=2
search_fails ask 'assertion violated ((n_loaded[me]+( (previous_full[me]) ? (2) : (0) ))==0)' \
    -DPREVIOUS_UNSEEN -DOPS=2
