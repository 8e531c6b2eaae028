"""The finder: how a folder of images and masks is to be read, where nobody has said it.

`propose` looks at the names of all files (`stacks`, `relations`, `pairing`), at the pixels of all
masks (`scan`, `coding`), at tables of classes (`tables`) and at lists and folders of splits
(`dividing`). It returns keys of the dataset's config, which the user always sees.
"""
