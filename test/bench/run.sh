#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The benches, with the module of this build; beside it the stock module of the httpd installation where there is one.
# bench.py --help tells what they measure and how to run a smaller one.
cd "$(dirname "$0")" && exec /usr/bin/env PATH="/usr/bin:$PATH" python3 bench.py "$@"
