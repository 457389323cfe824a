#!/usr/bin/env bash
# Thread caches and the depot under every interleaving of two threads. ctest: TIMEOUT 600
set -u
# shellcheck source=tests/model/support/search.sh
. "$(dirname "${BASH_SOURCE[0]}")/support/search.sh"

places='assertion violated (places[i]=='
full='assertion violated (((count[((m-6)-1)]==2)&&(first[((m-6)-1)]!=0))'

search cache -DOPS_0=1 -DOPS_1=4
search cache -DDRY
search cache -DCACHED=2 -DOPS_0=3 -DALL_LOOSE
search cache -DDRY -DFEW_MAGAZINES -DLOOSE_WILL_DO
search_fails cache 'assertion violated (below==link[r])' \
    -DNO_TAG -DCACHED=0 -DALL_LOOSE -DOPS_0=1 -DOPS_1=3
search_fails cache "$places" -DFORGET_PREVIOUS
search_fails cache "$places" -DFORGET_REST
search_fails cache "$places" -DKEEP_EMPTY
search_fails cache "$full" -DSTALE_COUNT
search_fails cache "$places" -DPUT_FIRST -DDRY -DFEW_MAGAZINES -DLOOSE_WILL_DO
search_fails cache 'assertion violated (e!=0)' -DFEW_MAGAZINES -DDRY
search_fails cache 'assertion violated (missed[me]==0)' \
    -DNO_MUTEX -DCACHED=0 -DREGIONS=3 -DCUT=3
