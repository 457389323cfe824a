#!/usr/bin/env bash
# The line at the limit, under every interleaving. ctest: TIMEOUT 1200
set -u
# shellcheck source=tests/model/support/search.sh
. "$(dirname "${BASH_SOURCE[0]}")/support/search.sh"

beside_region='assertion violated (n_depot[class_of[line[k]]]==0)'
beside_room='assertion violated ((n_line==0)||(room==0))'
lost='assertion violated (((((n_depot[k]+held[k])+held[(2+k)])+held[(4+k)])+n_gone[k])==n_cut[k])'
one=(-DKIND_1=NOTHING)
async=(-DKIND_0=ASYNC -DKIND_1=NOTHING)

search wait -DCLASS_1=1 -DHELD_A=0 -DHELD_B=1 -DDEPOT_B=1
search wait "${async[@]}" -DCLASS_0=BARE -DHELD_A=0 -DLIFTS=1
search wait "${one[@]}" -DBUFFERS
search_fails wait "$beside_region" "${one[@]}" -DLOOK_FIRST
search_fails wait "$beside_region" "${one[@]}" -DBUFFERS -DWEAK_PUSH
search_fails wait "$beside_room" "${async[@]}" -DHELD_A=0 -DLIFTS=1 -DCOUNT_ONLY
search_fails wait "$beside_room" "${one[@]}" -DHELD_A=0 -DLIFTS_ELSEWHERE=1 -DLIFT_UNSEEN
search_fails wait 'n_calls==0' "${async[@]}" -DCALL_SILENT
search_fails wait 'assertion violated in_frame[0]' "${one[@]}" -DWAKE_UNLOCKED
search_fails wait "$lost" "${one[@]}" -DFORGET_SERVED
search_fails wait 'assertion violated (asks==(n_line>0))' "${one[@]}" -DKEEP_ASKS
search_fails wait "$lost" "${async[@]}" -DCANCEL_ANY
