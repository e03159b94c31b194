# The steps of `./dev test`, read by `dev`. A step builds what it needs and runs one tier of
# tests; it is skipped, and says so, where its folder is missing.

tsan=$root/build/test-tsan
clang=$root/build/test-clang

# What a sanitizer finds ends the process, so that no test passes over it.
export ASAN_OPTIONS=${ASAN_OPTIONS:-strict_string_checks=1:detect_stack_use_after_return=1:check_initialization_order=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1:second_deadlock_stack=1:suppressions=$root/tests/tsan.supp}

# Name, seconds it may take, and when it runs: always, or with --all only.
steps() {
    cat <<EOT
check      120   always
rules      60    always
release    900   always
symbols    60    always
clang      1200  always
tsan       900   always
mutants    900   always
bindings   300   always
cluster    900   always
redis      600   always
engines    300   always
sanitized  600   always
planted    3600  all
long       3600  all
slow       3600  all
allengines 3600  all
fuzz       14400 all
docker     1800  all
EOT
}

run_ctest() {
    local folder=$1
    shift
    ctest --test-dir "$folder" -j "$jobs" --output-on-failure --no-tests=error "$@"
}

# run_pytest FOLDER [argument ...]: status 77 is "nothing there to run".
run_pytest() {
    local folder=$1 status=0
    shift
    [[ -d $folder ]] && compgen -G "$folder/test_*.py" >/dev/null || return 77
    eval "$(print_env)"
    "$python" -B -m pytest -q "$folder" "$@" || status=$?
    ((status != 5)) || status=77
    return "$status"
}

# run_halves NAME FILE ... -- [argument ...]: pytest in two processes, each with every other
# file, for tests that wait more than they compute. The last line has the counts of both.
run_halves() {
    local name=$1 half status=0 pids=() files=() mine
    shift
    while [[ $1 != -- ]]; do
        files+=("$1")
        shift
    done
    shift
    eval "$(print_env)"
    for half in 1 2; do
        mapfile -t mine < <(printf '%s\n' "${files[@]}" | awk -v half="$half" 'NR % 2 == half - 1')
        "$python" -B -m pytest -q "${mine[@]}" "$@" 2>&1 | tee "$log/$name-$half.log" &
        pids+=($!)
    done
    wait "${pids[0]}" || status=$?
    wait "${pids[1]}" || status=$?
    tail -q -n 1 "$log/$name-1.log" "$log/$name-2.log" | paste -sd'+'
    return "$status"
}

step_check() { cmd_check; }
step_rules() { run_pytest tests/check; }

step_release() {
    configure "$build" gcc
    compile "$build"
    run_ctest "$build" -LE 'long|bench|fuzz'
}

step_symbols() { "$python" -B tests/check/symbols.py "$build"; }

# The other compiler's warnings; everything once more under ASan and UBSan, which the fuzzer's
# build has anyway; each fuzz target for a few seconds.
step_clang() {
    configure "$clang" clang-14 -DRK_FUZZ=ON -DRK_BINDINGS=OFF
    compile "$clang"
    run_ctest "$clang" -LE 'long|bench'
}

# Tests with the label `threads`, and the programs that have threads.
step_tsan() {
    configure "$tsan" gcc -DRK_SANITIZE=thread -DRK_BINDINGS=OFF
    compile "$tsan" threaded
    if ctest --test-dir "$tsan" -N -L threads | grep -q '^Total Tests: 0$'; then return 77; fi
    run_ctest "$tsan" -L threads
}

# Builds each planted bug and wants the simulator to find it.
step_mutants() {
    [[ -x tests/sim/mutants ]] || return 77
    tests/sim/mutants
}

# All of them: some take thousands of seeds.
step_planted() {
    [[ -x tests/sim/mutants ]] || return 77
    tests/sim/mutants --all
}

step_bindings() { run_pytest tests/bindings -m 'not slow'; }
step_cluster() { run_halves cluster tests/cluster/test_*.py -- -m 'not slow'; }

# run_sanitized BUILD FOLDER: its tests marked `sanitize`, against nodes of that build.
run_sanitized() {
    (
        build=$1
        rukund=$build/server/rukund/rukund
        tool_dir=$build/clients/cli
        run_pytest "$2" -m sanitize
    )
}

# Against nodes of the two sanitizer builds; that of Redis waits more than it computes.
step_sanitized() {
    local status=0 redis
    [[ -x $clang/server/rukund/rukund && -x $tsan/server/rukund/rukund ]] || return 77
    run_sanitized "$clang" tests/redis &
    redis=$!
    run_sanitized "$clang" tests/cluster || status=1
    # The client of Redis has one thread.
    run_sanitized "$tsan" tests/cluster || status=1
    wait "$redis" || status=1
    return "$status"
}

# What has to hold on every engine: calls, locks, queues, caches, the libraries, the example.
engine_suites=(tests/cluster/test_{api,api_calls,api_errors,lost_locks,promises,client,digest}.py
    tests/bindings/test_{smoke,python_cluster}.py)

# run_engine KIND [argument ...]; the kinds stand in tests/cluster/stores.py.
run_engine() {
    local kind=$1
    shift
    printf -- '-- %s\n' "$kind"
    (
        export RUKUN_TEST_ENGINE=$kind RUKUN_TEST_FAULTS=1
        run_halves "$kind" "${engine_suites[@]}" -- "$@"
    )
}

# One kind, and of the suites what takes seconds.
step_engines() {
    export RUKUN_READS=1000
    run_engine redis -m 'not slow' --deselect tests/cluster/test_api_errors.py \
        --deselect tests/cluster/test_client.py --deselect tests/bindings/test_python_cluster.py \
        --deselect tests/bindings/test_smoke.py::test_c_leaks_nothing
}

# All kinds, although one fails: a Sentinel group fails over meanwhile, slots of a Cluster move.
step_allengines() {
    local kind failed=()
    for kind in redis redis-everysec redis-tls redis-sentinel redis-cluster; do
        run_engine "$kind" || failed+=("$kind")
    done
    ((${#failed[@]} == 0)) || {
        say "engines that failed: ${failed[*]}"
        return 1
    }
}

step_long() { run_ctest "$build" -L 'long'; }

# Ten minutes a target; what it finds stays in build/test-clang/tests/fuzz/found.
step_fuzz() {
    configure "$clang" clang-14 -DRK_FUZZ=ON -DRK_BINDINGS=OFF
    compile "$clang"
    tests/fuzz/run --build "$clang/tests/fuzz" --seconds 600 --jobs "$jobs"
}

step_slow() {
    run_pytest tests/cluster -m slow
    run_pytest tests/redis -m slow
}
step_redis() { run_halves redis tests/redis/test_*.py -- -m 'not slow'; }
step_docker() { run_pytest tests/docker; }

# In a process of its own, so that `set -e` holds within and a limit can end it.
run_step() { "step_$1"; }

# Runs one step under its limit; what it prints is kept in build/log. Sets verdict.
try_step() {
    local name=$1 limit=$2 began=$SECONDS status=0
    printf '\n== %s\n' "$name"
    timeout -k 15 "$limit" "$root/dev" step "$name" 2>&1 | tee "$log/$name.log" || status=$?
    case $status in
    0) verdict=ok ;;
    77) verdict='nothing to run' ;;
    124 | 137) verdict="FAILED: over $limit s" ;;
    *) verdict=FAILED ;;
    esac
    verdict="$verdict ($((SECONDS - began)) s)"
    ((status == 0 || status == 77))
}

cmd_test() {
    local all= wanted=() name limit when verdict is_failed= summary=()
    while (($#)); do
        case $1 in
        --all) all=1 ;;
        -*) die "test: no such option: $1" ;;
        *)
            steps | awk '{print $1}' | grep -qxF -- "$1" ||
                die "test: no such step: $1; there are: $(steps | awk '{print $1}' | paste -sd' ')"
            wanted+=("$1")
            ;;
        esac
        shift
    done
    # A step of --all that is asked for by name needs its packages, too.
    while read -r name limit when; do
        [[ $when != all || " ${wanted[*]} " != *" $name "* ]] || all=1
    done < <(steps)
    need_packages build run test ${all:+test-all}
    mkdir -p "$log"
    while read -r name limit when; do
        if ((${#wanted[@]})); then
            [[ " ${wanted[*]} " == *" $name "* ]] || continue
        elif [[ $when == all && -z $all ]]; then
            continue
        fi
        try_step "$name" "$limit" </dev/null || is_failed=1
        summary+=("$(printf '%-10s %s' "$name" "$verdict")")
    done < <(steps)
    printf '\n== results\n'
    printf '%s\n' "${summary[@]}"
    # The counts that ctest and pytest closed with, for a log that is read from its end.
    (cd "$log" && for name in release clang tsan bindings cluster redis engines; do
        [[ " ${summary[*]} " == *"$name "* && -e $name.log ]] || continue
        grep -hE 'tests passed|[0-9]+ (passed|failed)' "$name.log" | tail -n 1 | sed "s/^/$name: /" || true
    done)
    if [[ -n $is_failed ]]; then
        printf 'tests: FAILED\n'
        return 1
    fi
    printf 'tests: ok\n'
}
