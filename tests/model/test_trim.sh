#!/usr/bin/env bash
# Sifting a class beside takers and putters, under every interleaving. ctest: TIMEOUT 1200
set -u
# shellcheck source=tests/model/support/search.sh
. "$(dirname "${BASH_SOURCE[0]}")/support/search.sh"

overlooked='assertion violated ((((n_waiting==0)||((records&(1<<k))!=0))||(owner[(2*k)]!=0))'
missed='assertion violated (missed[me]==0)'
unretired='assertion violated (( !(wants)||got)||(unretired[me]==0))'
taken='assertion violated (owner[r]==0)'
in_use='assertion violated ( !(((records&(1<<s))!=0))&& !(is_retired[s]))'

search_long trim
search trim -DSIFTERS=2 -DUSERS=1
search trim -DSECOND=1 -DHELD=8 -DOPS=1 -DROOM=1
search_fails trim 'assertion violated ((n_collected[k]==0)&& !(is_retired[k]))' -DNO_DECREMENT
search_fails trim "$missed" -DSKIP_SIFTED
search_fails trim "$missed" -DNO_MUTEX
search_fails trim "$overlooked" -DREST_TO_LOOSE
search_fails trim 'assertion violated ((full_set|empty_set)==((1<<3)-1))' -DKEEP_MAGAZINES
search_fails trim "$taken" -DBELIEVE_LISTS
search_fails trim "$taken" -DRECYCLE_EARLY
search_fails trim "$in_use" -DIGNORE_CUTTING
search_fails trim "$in_use" -DKEEP_PENDING
search_fails trim "$overlooked" -DSIFT_ONCE
search_fails trim "$overlooked" -DCLEAR_LATE
search_fails trim "$overlooked" -DQUIET_CUT
search_fails trim 'assertion violated (n_sifting==0)' -DTWO_SIFTERS -DSIFTERS=2 -DOPS=1
search_fails trim "$unretired" -DNO_WAIT -DSIFTERS=2 -DOPS=1
search_fails trim 'invalid end state' -DNO_WAKE -DSIFTERS=2 -DOPS=1
# shellcheck disable=SC2034
way='-DREVERSE -DT_REVERSE'
search_fails trim "$unretired" -DONE_LOOK -DSIFTERS=2 -DOPS=1
