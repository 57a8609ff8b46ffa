/* SPDX-License-Identifier: Apache-2.0 */
/* In place of libFuzzer: gives files, or all files in directories, to a target. The last line tells
 * how many. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path, size_t size)
{
    uint8_t *data = malloc(size + 1);
    FILE *file = fopen(path, "r");

    if (!data || !file || fread(data, 1, size, file) != size) {
        perror(path);
        exit(2);
    }
    fclose(file);
    fprintf(stderr, "%s\n", path); /* where it ends, if it does not go on */
    LLVMFuzzerTestOneInput(data, size);
    free(data);
    return 1;
}

static int replay(const char *path)
{
    char inner[4096];
    struct dirent *entry;
    struct stat st;
    int count = 0;
    DIR *dir;

    if (stat(path, &st) != 0) {
        perror(path);
        exit(2);
    }
    if (!S_ISDIR(st.st_mode))
        return replay_file(path, (size_t)st.st_size);
    dir = opendir(path);
    for (entry = dir ? readdir(dir) : NULL; entry; entry = readdir(dir)) {
        snprintf(inner, sizeof(inner), "%s/%s", path, entry->d_name);
        if (entry->d_name[0] != '.')
            count += replay(inner);
    }
    if (dir)
        closedir(dir);
    return count;
}

int main(int argc, char **argv)
{
    int i, count = 0;

    LLVMFuzzerInitialize(&argc, &argv);
    for (i = 1; i < argc; ++i)
        count += replay(argv[i]);
    printf("%d inputs\n", count);
    return count == 0;
}
