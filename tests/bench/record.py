"""
--json: valid, complete, the same figures as the table, in every kind of run; files that cannot be written are refused
before anything is measured, and nothing half-written is ever seen.
"""
import os
import re
import stat

from support import QUICK, check, environment, expect_refusal, expect_success, load, main, perf, run


def close(printed, value):
    """The table prints two decimals, or as many digits as fit."""
    return abs(float(printed) - value) <= max(0.00501, 0.001 * abs(value))


def table_rows(stdout):
    collective = None
    for line in stdout.splitlines():
        heading = re.fullmatch(r'# ([a-z_]+)', line)
        if heading:
            collective = heading[1]
        elif line and not line.startswith('#'):
            yield collective, line.split()


def measured_matches(words, measured):
    if measured is None:
        return words == ['N/A'] * len(words)
    each = measured['per_iteration']
    figures = [measured['time_us'], measured['algbw_gbs'], measured['busbw_gbs'], measured['wrong']]
    if each:
        figures += [each['min_us'], each['max_us'], each['p99_us'], 100 * each['stdev_us'] / each['mean_us']]
    return len(words) == len(figures) and all(
        word == 'N/A' if figure is None else close(word, figure) for word, figure in zip(words, figures))


def check_run(done, run_, each):
    rows = list(table_rows(done.stdout))
    check(rows and len(rows) == len(run_['rows']), 'the table has as many rows as the JSON', done)
    width = 8 if each else 4
    for (collective, words), row in zip(rows, run_['rows']):
        check(collective == row['collective'], f'{collective} is {row["collective"]} in JSON')
        check(words[:5] == [str(row['bytes']), str(row['count']), row['type'], row['op'] or 'none',
                            str(-1 if row['root'] is None else row['root'])], f'{words} is not {row}')
        check(measured_matches(words[5:5 + width], row['out_of_place']), f'{words} is not {row["out_of_place"]}')
        check(measured_matches(words[5 + width:5 + 2 * width], row['in_place']), f'{words} is not {row["in_place"]}')
        check(close(words[5 + 2 * width], row['bound_us']), f'{words} has not the bound {row["bound_us"]}')
        for m in (row['out_of_place'], row['in_place']):
            check(m is None or summary_is_right(m), f'{m} does not sum up its rounds')


def summary_is_right(m):
    rounds, values = m['rounds'], sorted(m['rounds_us'])
    median = (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2
    return (rounds['count'] == len(values) and rounds['min_us'] == values[0] and rounds['max_us'] == values[-1]
            and abs(rounds['p50_us'] - median) < 1e-6 * median and m['time_us'] == rounds['p50_us']
            and rounds['p95_us'] in values and rounds['p99_us'] in values)


def test_figures_are_those_of_the_table(folder):
    path = os.path.join(folder, 'a.json')
    done = expect_success(perf(*QUICK, '--json', path, 'all_reduce', 'all_gather', 'broadcast', 'sendrecv'))
    run_ = load(path)
    check_run(done, run_, each=False)
    check(run_['end'] == 'complete' and run_['format'] == 'shmccl-perf' and run_['version'] == 1, f'{run_["end"]}')
    check(run_['options']['iters'] == 20 and run_['options']['datatype'] == 'float', str(run_['options']))
    check(run_['command'][:5] == ['shmccl-perf', *QUICK[:4]], str(run_['command']))
    check(run_['bounds']['memory_copy_gbs'] > 0 and run_['machine']['cores_used'] >= 1, str(run_['bounds']))
    check(os.listdir(folder) == ['a.json'], f'{os.listdir(folder)} is left')
    expect_success(run('python3', '-m', 'json.tool', path))


def test_single_iterations(folder):
    path = os.path.join(folder, 'a.json')
    done = expect_success(perf(*QUICK, '-I', '1', '-K', '5', '-a', '3', '--output_file', path, 'all_reduce', 'sendrecv'))
    run_ = load(path)
    check_run(done, run_, each=True)
    check('i_p99' in done.stdout, 'the columns of -I are missing', done)
    for row in run_['rows']:
        each = row['out_of_place']['per_iteration']
        check(each['count'] == 3 * 15, f'{each["count"]} iterations, not 3 rounds of 20 - 5')
        check(each['min_us'] <= each['p50_us'] <= each['p95_us'] <= each['p99_us'] <= each['max_us'], str(each))


def test_other_kinds_of_runs(folder):
    path = os.path.join(folder, 'a.json')
    for flags in (['-t', '2', '-b', '1K', '-e', '1K', '-n', '10', '-u', '3', '-d', 'all', '-o', 'all', 'reduce'],
                  [*QUICK, '-m', '7', 'sendrecv'], [*QUICK, '-c', '0', '-S', '1', '-N', '2', '-r', 'all', 'broadcast']):
        done = expect_success(perf(*flags, '-J', path))
        run_ = load(path)
        check_run(done, run_, each=False)
    check({row['cycle'] for row in run_['rows']} == {0, 1}, 'two cycles were asked for')
    check(re.search(r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$', done.stdout, re.M), '-S 1 must end rows with the time', done)
    check(run_['rows'][0]['out_of_place']['wrong'] is None, 'nothing was checked')


def test_as_a_rank_of_a_job(folder):
    path = os.path.join(folder, 'a.json')
    job = environment(SHMCCL_ID=f'test-{os.getpid()}', SHMCCL_RANK='0', SHMCCL_NRANKS='1')
    done = expect_success(perf('-e', '1K', '-f', '8', '-n', '10', '--json', path, env=job))
    check_run(done, load(path), each=False)
    expect_refusal(perf('--json', '/nonexistent/a.json', env=job), '/nonexistent/a.json')


def test_strange_names(folder):
    """What needs escapes, in a path and in the environment: quotes, a newline, bytes that are no UTF-8."""
    path = os.path.join(folder, 'a "b"\\\n\t\udcff.json')
    env = environment(SHMCCL_DEBUG='"\\\n\udcfe')
    expect_success(perf(*QUICK, '--json', path, env=env))
    run_ = load(path)
    check(run_['options']['json'] == path.replace('\udcff', '\ufffd'), repr(run_['options']['json']))
    check(run_['environment']['SHMCCL_DEBUG'] == '"\\\n\ufffd', repr(run_['environment']))


def test_unwritable_paths(folder):
    for path, word in (('/nonexistent/a.json', 'No such file'), (folder, 'directory'), ('/proc/a.json', 'cannot write'),
                       (os.path.join(folder, 'x' * 300), 'File name too long')):
        expect_refusal(perf(*QUICK, '--json', path), '--json', path, word)
    check(not os.listdir(folder), 'something was left')


def test_a_file_in_place_is_replaced_at_once(folder):
    path, keep = os.path.join(folder, 'a.json'), os.path.join(folder, 'keep')
    with open(path, 'w', encoding='utf-8') as file:
        file.write('old')
    os.link(path, keep)
    expect_success(perf(*QUICK, '--json', path))
    check(load(path)['end'] == 'complete', 'the new file is not there')
    with open(keep, encoding='utf-8') as file:
        check(file.read() == 'old', 'the old file was written into, instead of a new one being moved over it')


def test_special_files_stay(_):
    expect_success(perf(*QUICK, '--json', '/dev/null'))
    check(stat.S_ISCHR(os.stat('/dev/null').st_mode), '/dev/null was replaced')


main()
