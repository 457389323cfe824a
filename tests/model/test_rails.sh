#!/usr/bin/env bash
# Rails that join, fail and leave beside everything, under every interleaving. ctest: TIMEOUT 1200
set -u
# shellcheck source=tests/model/support/search.sh
. "$(dirname "${BASH_SOURCE[0]}")/support/search.sh"

twice='assertion violated ( !(((at[p]&(1<<c))!=0))&& !(((registered[r]&(1<<c))!=0)))'
untrue='assertion violated (((state[0]==2)&&((registered[0]&(1<<c))!=0))&&((at[network[0]]&(1<<c))!=0))'
taken_back='assertion violated  !(((shown[r]&(1<<c))!=0))'
still_open='assertion violated  !(((shown[0]&(1<<c))!=0))'
in_use='assertion violated ((state[0]!=2)&&(state[0]!=1))'
not_all='assertion violated ((state[0]!=2)||((((table& ~(restricted))& ~(leaving))& ~(shown[0]))==0))'
left='assertion violated (at[network[0]]==0)'
inside='assertion violated (n_inside[network[0]]==0)'
stuck='invalid end state'
ensure=(-DGROWERS=0)
grow=(-DENSURERS=0)
fail=(-DENSURERS=0 -DGROWERS=0 -DFAILERS=1)
two=(-DCHANGERS=2 -DENSURERS=0 -DGROWERS=0)

search rails
search rails -DENSURERS=2 -DGROWERS=0
search rails -DGROWERS=2 -DENSURERS=0 -DOPS=1 -DCHANGES=1
search rails -DCHANGERS=2 -DENSURERS=0 -DFAILERS=1 -DCHANGES=1
search_fails rails "$twice" "${ensure[@]}" -DMISSING_FROM_LINES
search_fails rails "$inside" "${ensure[@]}" -DWANTS_FIRST
search_fails rails "$untrue" "${grow[@]}" -DSHOW_JOINING
search_fails rails "$taken_back" "${ensure[@]}" -DSHOW_EACH
search_fails rails "$untrue" "${ensure[@]}" -DLOOK_ONCE
search_fails rails "$untrue" "${fail[@]}" -DOPEN_BLINDLY
search_fails rails "$not_all" "${grow[@]}" -DNO_OPEN
search_fails rails "$not_all" "${grow[@]}" -DFORGET_MISSED
search_fails rails "$in_use" "${fail[@]}" -DFORGET_FAILURE
search_fails rails "$not_all" "${grow[@]}" -DJOIN_AT_ONCE
search_fails rails "$left" "${grow[@]}" -DLEAVE_AT_ONCE
search_fails rails "$inside" "${grow[@]}" -DAWAIT_ONCE
search_fails rails "$left" "${grow[@]}" -DAWAIT_NEW
search_fails rails "$left" "${grow[@]}" -DCHOOSE_EARLY
search_fails rails "$left" "${grow[@]}" -DEND_EARLY
search_fails rails 'assertion violated ((at[p]&(1<<c))!=0)' "${grow[@]}" -DIGNORE_HOLD
search_fails rails "$inside" "${ensure[@]}" -DUNHOLD_EARLY
search_fails rails "$stuck" "${grow[@]}" -DEVICT_OWN
search_fails rails 'assertion violated  !(((held&(1<<c))!=0))' "${grow[@]}" -DHOLD_LEAVING
search_fails rails "$still_open" "${grow[@]}" -DSHUT_FIRST
search_fails rails "$in_use" "${fail[@]}" -DFAIL_OUTSIDE
search_fails rails "$in_use" "${two[@]}" -DTWO_CHANGES
search_fails rails "$stuck" "${ensure[@]}" -DNO_WAKE_HOLD
search_fails rails "$stuck" "${grow[@]}" -DNO_WAKE_PASSAGE
search_fails rails "$stuck" "${two[@]}" -DNO_WAKE_CHANGE
