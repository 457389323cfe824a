#!/usr/bin/env bash
# skip.sh PROVIDER REASON: stands in for a test program that could not be built.
# MRP_TEST_REQUIRE=ofi,... turns the skip into a failure.
if [[ ",${MRP_TEST_REQUIRE:-}," == *",$1,"* ]]; then
    echo "required by MRP_TEST_REQUIRE, but not built: $2"
    exit 1
fi
echo "SKIP: $1 not built: $2"
exit 77
